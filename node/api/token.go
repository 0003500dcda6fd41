package api

import (
	"context"
	"net/http"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// tokenHeader carries a token's text.
const tokenHeader = "Perrin-Token"

type tokenKey struct{}

// WithToken has the requests of a Client that are made with ctx, and what a
// Backend does with it, go under a token.
func WithToken(ctx context.Context, token []workload.Signed) context.Context {
	return context.WithValue(ctx, tokenKey{}, token)
}

// TokenOf returns the token that a request goes under; none is nil.
func TokenOf(ctx context.Context) []workload.Signed {
	token, _ := ctx.Value(tokenKey{}).([]workload.Signed)
	return token
}

// carryToken puts the token of a request's context into its header.
func carryToken(req *http.Request) {
	if token := TokenOf(req.Context()); len(token) > 0 {
		req.Header.Set(tokenHeader, rights.Text(token))
	}
}

// tokenLine is the header's line, or nothing.
func tokenLine(ctx context.Context) string {
	if token := TokenOf(ctx); len(token) > 0 {
		return tokenHeader + ": " + rights.Text(token) + "\r\n"
	}
	return ""
}

// takeToken puts the token of a request's header into its context.
func takeToken(r *http.Request) (*http.Request, error) {
	text := r.Header.Get(tokenHeader)
	if text == "" {
		return r, nil
	}
	token, err := rights.Parse(text)
	if err != nil {
		return nil, Errorf(Invalid, "token: %s", err.Error())
	}
	return r.WithContext(WithToken(r.Context(), token)), nil
}
