"""The demo: the main job of calltally, told with real parts."""
