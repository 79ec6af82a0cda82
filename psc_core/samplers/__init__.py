"""Posterior samplers: functions that read like their equations."""
