package db

// The SQL text of queries that travel in one pipeline with others.
const (
	TextDeleteResurrectedJobs = deleteResurrectedJobs
	TextDeleteMisplacedJobs   = deleteMisplacedJobs
	TextFindLoneJobs          = findLoneJobs
)
