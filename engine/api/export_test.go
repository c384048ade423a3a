package api

// Masked is masked, for the tests that see the API from outside.
var Masked = masked
