"""Instances of COCO: one JSON file that lists images, categories, and annotations with boxes, regions and keypoints."""
