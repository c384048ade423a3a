package api

import "connectrpc.com/connect"

// maskedConn sends messages without arguments and results.
type maskedConn struct{ connect.StreamingHandlerConn }

// Send implements connect.StreamingHandlerConn.
func (c maskedConn) Send(message any) error { return c.StreamingHandlerConn.Send(masked(message)) }
