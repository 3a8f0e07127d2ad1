"""Inference: fit, Training, schedules, the loop, resuming, and the engines that step."""
