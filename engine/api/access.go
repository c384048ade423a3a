package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/heddle-io/heddle/engine/access"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// loginService is the AccessService.
type loginService struct {
	gate *access.Gate // nil: everybody may everything
	dev  bool
}

var _ heddlev1connect.AccessServiceHandler = (*loginService)(nil)

// roleNumbers are the roles as the API has them.
var roleNumbers = map[access.Role]heddlev1.Role{
	access.Viewer: heddlev1.Role_ROLE_VIEWER, access.Operator: heddlev1.Role_ROLE_OPERATOR,
	access.Admin: heddlev1.Role_ROLE_ADMIN, access.Worker: heddlev1.Role_ROLE_WORKER,
}

// WhoAmI tells callers who they are.
func (s *loginService) WhoAmI(ctx context.Context, _ *connect.Request[heddlev1.AccessServiceWhoAmIRequest]) (*connect.Response[heddlev1.AccessServiceWhoAmIResponse], error) {
	mount := mountOf(ctx)
	if s.gate == nil {
		return connect.NewResponse(&heddlev1.AccessServiceWhoAmIResponse{
			Name: access.Anonymous, Role: heddlev1.Role_ROLE_ADMIN, Dev: s.dev, Base: mount.base,
		}), nil
	}
	c := access.From(ctx)
	return connect.NewResponse(&heddlev1.AccessServiceWhoAmIResponse{
		Name: c.Name, Role: roleNumbers[c.Role], LoginRequired: c.Role == access.Nobody && s.gate.CanLogin(),
		ReadOnly: s.gate.ReadOnly(), PayloadsHidden: s.gate.Masks(c), Dev: s.dev, Base: mount.base,
	}), nil
}

// Login sets the cookie by which a browser is known from then on.
func (s *loginService) Login(ctx context.Context, req *connect.Request[heddlev1.AccessServiceLoginRequest]) (*connect.Response[heddlev1.AccessServiceLoginResponse], error) {
	if s.gate == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("this engine has no tokens to log in with"))
	}
	mount := mountOf(ctx)
	c, cookie, err := s.gate.Login(req.Msg.GetToken(), mount.base, mount.secure)
	switch {
	case err != nil && !s.gate.CanLogin():
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	case err != nil:
		return nil, connect.NewError(connect.CodeUnauthenticated, err)
	}
	res := connect.NewResponse(&heddlev1.AccessServiceLoginResponse{Name: c.Name, Role: roleNumbers[c.Role]})
	res.Header().Set("Set-Cookie", cookie.String())
	return res, nil
}

// Logout takes the cookie away.
func (s *loginService) Logout(ctx context.Context, _ *connect.Request[heddlev1.AccessServiceLogoutRequest]) (*connect.Response[heddlev1.AccessServiceLogoutResponse], error) {
	res := connect.NewResponse(&heddlev1.AccessServiceLogoutResponse{})
	if s.gate != nil {
		mount := mountOf(ctx)
		res.Header().Set("Set-Cookie", s.gate.Logout(mount.base, mount.secure).String())
	}
	return res, nil
}

// mount is where a call found the API.
type mount struct {
	base   string // path before that of the service
	secure bool
}

type mountKey struct{}

// mounted notes where calls find the API.
func mounted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := mount{base: access.Base(r), secure: access.Secure(r)}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), mountKey{}, m)))
	})
}

func mountOf(ctx context.Context) mount {
	m, _ := ctx.Value(mountKey{}).(mount)
	return m
}

// rights refuses what a caller may not do, and hides what it may not see.
type rights struct{ gate *access.Gate }

var _ connect.Interceptor = rights{}

// check tells why a caller may not call a procedure.
func (i rights) check(ctx context.Context, procedure string) error {
	n := needOf(procedure)
	caller := access.From(ctx)
	switch {
	case n.open:
		return nil
	case n.peer && caller.Peer:
		return nil
	case n.peer:
		return connect.NewError(connect.CodePermissionDenied, errors.New("only nodes of the cluster call this: with a certificate, or with the secret of the cluster"))
	case n.role != access.Nobody && caller.Role.Includes(n.role), n.worker && caller.Role == access.Worker:
		if n.changes && i.gate.ReadOnly() {
			return connect.NewError(connect.CodePermissionDenied, errors.New("this engine is read-only"))
		}
		return nil
	case access.Refusal(ctx) != nil:
		return connect.NewError(connect.CodeUnauthenticated, access.Refusal(ctx))
	case caller.Role == access.Nobody:
		return connect.NewError(connect.CodeUnauthenticated, access.ErrLogin)
	}
	method := procedure[strings.LastIndexByte(procedure, '/')+1:]
	return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%s takes the role %s, and %s has the role %s", method, n.role, caller.Name, caller.Role))
}

// WrapUnary implements connect.Interceptor.
func (i rights) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if err := i.check(ctx, req.Spec().Procedure); err != nil {
			return nil, err
		}
		res, err := next(ctx, req)
		if err == nil && i.gate.Masks(access.From(ctx)) {
			mask(res.Any()) // an answer belongs to its call
		}
		return res, err
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (rights) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (i rights) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := i.check(ctx, conn.Spec().Procedure); err != nil {
			return err
		}
		if i.gate.Masks(access.From(ctx)) {
			conn = maskedConn{conn}
		}
		return next(ctx, conn)
	}
}
