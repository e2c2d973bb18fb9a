-- What an operator has tried again.
CREATE INDEX deliveries_failed ON deliveries (client_id) WHERE status = 'failed';
