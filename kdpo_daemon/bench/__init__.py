"""Measurements that anybody can repeat: each gives numbers, none decides anything."""
