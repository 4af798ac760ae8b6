"""What a fit leaves behind in one small file: the joint distribution of its coefficients, for contrasts and predictions afterwards."""
