package collect

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// webPatience bounds one question to a maker's server.
const webPatience = 10 * time.Second

// chainHeaders are where Intel's server puts the certificates of who signed
// (Intel PCS API, version 4).
var chainHeaders = []string{"TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain", "SGX-Enclave-Identity-Issuer-Chain", "SGX-PCK-CRL-Issuer-Chain"}

// Web returns a Collateral.Fetch that asks the makers' servers, by HTTP.
func Web(client *http.Client) func(ctx context.Context, url string) (*Document, error) {
	return func(ctx context.Context, address string) (*Document, error) {
		ctx, cancel := context.WithTimeout(ctx, webPatience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		got, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer got.Body.Close()
		if got.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", address, got.Status)
		}
		d := &Document{}
		if d.Body, err = io.ReadAll(io.LimitReader(got.Body, maxCollateral+1)); err != nil {
			return nil, err
		}
		for _, name := range chainHeaders {
			if d.Chain == "" {
				d.Chain, err = url.PathUnescape(got.Header.Get(name))
			}
		}
		return d, err
	}
}
