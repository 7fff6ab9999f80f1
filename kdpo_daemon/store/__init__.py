"""The database: functions that take an open transaction and take and give records."""
