"""What judges are made of: cues and overlap, coherence, the trained judge, classifiers, endpoints, and human labels."""
