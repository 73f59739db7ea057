"""Which slot comes when: functions of the seed alone."""
