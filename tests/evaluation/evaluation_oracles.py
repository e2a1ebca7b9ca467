"""Loops written from the definitions, and fake datasets of known counts, for these tests."""

import random
from types import SimpleNamespace

import numpy as np

from vireid_plugins import Modality
from vireid_plugins.data import Item

IDS = (6, 10, 17, 21)
LLCM_IDS = (2, 5, 9, 14, 33, 40, 57, 61, 88, 102, 119, 143)
VISIBLE, INFRARED = int(Modality.VISIBLE), int(Modality.INFRARED)


def number_of_images(pid, camera):
    """3 to 12 images; identity 10 has none in cameras 4 and 5."""
    return 0 if (pid == 10 and camera in (4, 5)) else 3 + (pid * 7 + camera * 5) % 10


def fake_dataset(visible_cameras, infrared_cameras, folder="", shuffled=True):
    def items(cameras, modality):
        found = [
            Item(f"{folder}/m{modality}/cam{camera}/{pid:04d}/{n:04d}.jpg", pid, camera, modality)
            for pid in IDS
            for camera in cameras
            for n in range(1, number_of_images(pid, camera) + 1)
        ]
        random.Random(3).shuffle(found)  # a protocol must not depend on the order of the items
        return found if shuffled else sorted(found)

    return SimpleNamespace(
        query=items(infrared_cameras, INFRARED),
        gallery=items(visible_cameras, VISIBLE),
        dataset_dir=folder,
    )


def loop_metrics(scores, case, skip_camera_pairs, skip_same_camera, cmc, max_rank):
    """CMC (percent), AP and INP per query from scores (Q, G), one item after the other."""
    hits, precisions, penalties = np.zeros(max_rank), [], []
    for row, target, camera in zip(scores, case["query_targets"], case["query_camids"]):
        ranking = []
        for index in sorted(range(len(row)), key=lambda j: (-row[j], j)):
            gallery_target = case["gallery_targets"][index]
            gallery_camera = case["gallery_camids"][index]
            if (camera, gallery_camera) in skip_camera_pairs:
                continue
            if skip_same_camera and gallery_target == target and gallery_camera == camera:
                continue
            ranking.append(gallery_target)
        if target not in ranking:
            precisions.append(np.nan)
            penalties.append(np.nan)
            continue
        places = [rank for rank, found in enumerate(ranking, 1) if found == target]
        precisions.append(100 * np.mean([k / rank for k, rank in enumerate(places, 1)]))
        penalties.append(100 * len(places) / places[-1])
        once = list(dict.fromkeys(ranking)) if cmc == "identity" else ranking
        hits[once.index(target) :] += 1
    valid = int(np.sum(~np.isnan(precisions)))
    if valid == 0:
        return np.full(max_rank, np.nan), np.nan, np.nan, np.array(precisions), 0
    curve = 100 * hits / valid
    return curve, np.nanmean(precisions), np.nanmean(penalties), np.array(precisions), valid


def loop_scores(query, gallery, metric):
    query, gallery = np.asarray(query, np.float64), np.asarray(gallery, np.float64)
    scores = np.zeros((len(query), len(gallery)))
    for i, a in enumerate(query):
        for j, b in enumerate(gallery):
            if metric == "cosine":
                lengths = np.linalg.norm(a) * np.linalg.norm(b)
                scores[i, j] = a @ b / lengths if lengths else 0.0
            else:
                scores[i, j] = -((a - b) ** 2).sum()
    return scores


def llcm_images(modality):
    """Up to three of each identity and camera, as in LLCM, which has no infrared camera 3."""
    for pid in LLCM_IDS:
        for camera in range(1, 10):
            number = (7 * pid + 3 * camera + 5 * modality) % 5 - 1
            for frame in range(0 if camera == 3 and modality else number):
                word = ("vis", "nir")[modality]
                name = f"{pid:04d}_c{camera:02d}_s{(frame * 37 + 11) % 100}_f{frame}_{word}.jpg"
                yield Item(f"LLCM/test_{word}/cam{camera}/{pid:04d}/{name}", pid, camera, modality)


def llcm_feature(item, unit=True):
    """Return a feature, float64, from the labels alone; the same in every version of NumPy."""
    frame = int(item.path.split("_f")[1].split("_")[0])
    own, infrared = np.random.RandomState, int(item.modality)
    center = own([item.pid]).standard_normal(8) + 0.9 * own([9999, infrared]).standard_normal(8)
    feature = center + 1.6 * own([item.pid, item.camid, frame, infrared]).standard_normal(8)
    return feature / np.linalg.norm(feature) if unit else feature
