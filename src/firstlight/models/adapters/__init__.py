"""Models as what other people's software expects: ASE calculators, scikit-learn estimators, BoTorch models."""
