package proxyproto

import (
	"context"
	"net"

	"github.com/seed2e8fe8ee/proxyproto/internal/connkey"
)

// ConnContext is for http.Server.ConnContext: it lets handlers find the header of the
// connection that their request came on, with [HeaderFromContext]. c may be a *Conn or whatever
// wraps one; others leave ctx as it is. It doesn't block.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if conn, ok := FromConn(c); ok {
		return context.WithValue(ctx, connkey.Key{}, conn)
	}
	return ctx
}

// HeaderFromContext returns the header of the connection that [ConnContext] put into ctx, and
// whether it has one. Don't change it.
func HeaderFromContext(ctx context.Context) (*Header, bool) {
	conn, ok := ctx.Value(connkey.Key{}).(*Conn)
	if !ok {
		return nil, false
	}
	h := conn.Header()
	return h, h != nil
}
