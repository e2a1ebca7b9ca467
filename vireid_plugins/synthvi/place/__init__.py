"""Where and how: scenes, cameras and the domains they belong to."""
