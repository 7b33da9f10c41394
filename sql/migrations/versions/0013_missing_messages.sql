ALTER TABLE sms_messages ADD COLUMN missing_since timestamptz;
COMMENT ON COLUMN sms_messages.missing_since IS
'Since when Twilio answers that it has no such message; null again as soon as anything is told of it.';
COMMENT ON COLUMN sms_messages.gone_at IS
'When Twilio had answered for a day that it has no such message: it is not asked for any more.';
