"""Side by side with peers and with the bare minimum, in one run; every figure is a ratio or is printed beside one."""
