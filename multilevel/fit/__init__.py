"""What both engines return: the container, its joint draws, and the residuals that follow from it."""
