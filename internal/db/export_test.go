package db

// Compiled counts the statements kept.
func (d *DB) Compiled() int { return int(d.count.Load()) }
