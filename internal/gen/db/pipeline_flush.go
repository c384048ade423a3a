package db

// The SQL text of queries that travel in pipelines with others. The queries
// themselves live in queries/; what comes back is read by engine/store from
// the binary rows, in the order of their columns.
const (
	FenceSQL             = fence
	WriteCommitRecordSQL = writeCommitRecord

	LoadReadySQL   = loadReady
	WalkStreamsSQL = walkStreams
	WalkRowsSQL    = walkRows
	LeasedRowsSQL  = leasedRows
	DatabaseNowSQL = databaseNow

	FinishLoneSQL    = finishLone
	FinishNodesSQL   = finishNodes
	RequeueJobsSQL   = requeueJobs
	PutResultsSQL    = putResults
	LockWorkflowsSQL = lockWorkflows
	FindOpenSQL      = findOpen
	FindFinishedSQL  = findFinished
	FindAttemptsSQL  = findAttempts

	EdgesOfEndsSQL   = edgesOfEnds
	BatchesUpSQL     = batchesUp
	NodesByNumberSQL = nodesByNumber
	EdgesOutSQL      = edgesOut
	EdgesInSQL       = edgesIn
	MembersOfSQL     = membersOf

	ReleaseJobsSQL  = releaseJobs
	SetJobsSQL      = setJobs
	EndJobsSQL      = endJobs
	ReviveJobsSQL   = reviveJobs
	SetFinishedSQL  = setFinished
	SetResultSQL    = setResult
	PutResultSQL    = putResult
	SetBatchesSQL   = setBatches
	SetWorkflowsSQL = setWorkflows
	AddAuditSQL     = addAudit
	AddAuditsSQL    = addAudits
	PutCascadesSQL  = putCascades
	DropCascadesSQL = dropCascades
	MoveCascadeSQL  = moveCascade
	CascadeSQL      = cascade
	OpenMembersSQL  = openMembers

	LockLoneSQL         = lockLone
	LockFinishedLoneSQL = lockFinishedLone
	AdoptWorkflowSQL    = adoptWorkflow
	AdoptJobSQL         = adoptJob
	AdoptFinishedJobSQL = adoptFinishedJob
	TakenNamesSQL       = takenNames
	AppendOfKeySQL      = appendOfKey
	PutAppendKeySQL     = putAppendKey
	WaitingJobsSQL      = waitingJobs
	SetWaitsSQL         = setWaits
	SetWorkflowFlagsSQL = setWorkflowFlags

	RunJobsNowSQL       = runJobsNow
	AdvanceOperationSQL = advanceOperation
)
