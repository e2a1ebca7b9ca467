from .ranking import rank_metrics, rank_metrics_from_similarity
