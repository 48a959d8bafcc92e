-- The janitor merges the events of a day into one part, quiet or not, and not more often than a
-- merge of that day may cost. The engine by itself would write a whole day again for each late event.
ALTER TABLE events MODIFY SETTING
    min_age_to_force_merge_seconds = 0,
    min_age_to_force_merge_on_partition_only = 0;
