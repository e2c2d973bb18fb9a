package migrations

// Steps is steps, for its test.
var Steps = steps
