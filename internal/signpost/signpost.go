// Package signpost names the headers by which engines and their callers tell
// each other where the leader of a cluster is. Engine and SDK share it.
package signpost

const (
	// Leader, on an answer: the URL of the leader's API, if another node than the
	// one asked leads. Calls that the leader must answer had better go there.
	Leader = "Heddle-Leader"
	// Members, on an answer: the URLs of the APIs of all nodes of the cluster,
	// separated by commas. Any of them takes any call.
	Members = "Heddle-Members"
	// Forwarded, on a call: the id of the node that passed it on. It is not
	// passed on again.
	Forwarded = "Heddle-Forwarded"
	// Doubt, on an error: what was asked for may have been done all the same.
	Doubt = "Heddle-Doubt"
)
