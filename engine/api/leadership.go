package api

import "context"

// Place says where the leader is, as one node knows it at one moment. It is not
// changed once it was handed out.
type Place struct {
	// Leads: this node leads. It takes heartbeats from then on, and everything
	// else once it is Ready.
	Leads, Ready bool
	// API is the URL of the leader's API if another node leads; "" if none does,
	// as far as this one knows.
	API string
	// Self is the URL under which others reach this node's API; "" if they cannot.
	Self string
	// Members are the URLs of the APIs of all nodes, separated by commas; "" if
	// there is only one.
	Members string
	// Term ends when another node has come to lead than the one in API. It goes
	// on while none is known, for it may be the same again.
	Term context.Context
}

// Leadership knows where the leader is.
type Leadership interface {
	// Leader gives the present place. changed is closed when there is another.
	Leader() (place *Place, changed <-chan struct{})
}
