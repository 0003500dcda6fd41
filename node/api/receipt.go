package api

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/perrin-mesh/perrin/workload"
)

// Receipt implements Backend.
func (c *Client) Receipt(ctx context.Context, id workload.ID) ([]byte, error) {
	path := "/v1/workloads/" + id.String() + "/receipt"
	resp, err := c.do(ctx, http.MethodGet, path, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if len(raw) > maxAnswer {
		return nil, fmt.Errorf("GET %s: the answer is over %d MiB", path, maxAnswer>>20)
	}
	return raw, nil
}

func (s *Server) receipt(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	raw, err := s.backend.Receipt(r.Context(), id)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(raw); err != nil {
		s.log.Debug("answer not written", "error", err)
	}
	return nil
}
