-- For how long a key was made, apart from its end: rotation and changes move that. Of keys from before,
-- it is what their end says.
ALTER TABLE keys
    ADD COLUMN IF NOT EXISTS lifetime_us Nullable(Int64)
        DEFAULT toUnixTimestamp64Micro(expires_at) - toUnixTimestamp64Micro(created_at);
