package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// howEnded returns "exit code 3", with what its runner said, or why a program did not exit by itself.
func howEnded(res *workload.TaskResult) string {
	text := endText(res)
	switch {
	case res.Exit != workload.Exited:
		return text
	case text != "":
		return fmt.Sprintf("exit code %d: %s", res.Code, text)
	}
	return fmt.Sprintf("exit code %d", res.Code)
}

// lastWords returns the last line of a task's stderr, or "".
func lastWords(ctx context.Context, b api.Backend, id workload.ID, res *workload.TaskResult) string {
	const tail = 4096
	var buf bytes.Buffer
	s := res.Stderr
	switch {
	case len(s.Data) > 0:
		buf.Write(s.Data)
	case s.Blob.Size > 0:
		r, err := openResult(ctx, b, id, s.Blob)
		if err != nil {
			return ""
		}
		defer r.Close()
		if _, err := io.CopyN(io.Discard, r, max(0, s.Blob.Size-2*tail)); err != nil { // a sealed one is a little shorter than its blob
			return ""
		}
		if _, err := io.Copy(&buf, io.LimitReader(r, 2*tail)); err != nil {
			return ""
		}
	}
	lines := strings.Split(strings.TrimSpace(buf.String()), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return ": " + terminal.Clean(last, 160)
	}
	return ""
}

// indexList writes sorted indexes with ranges: 1, 4-7, 9. It stops after 50.
func indexList(list []uint32) string {
	var parts []string
	for i := 0; i < len(list); {
		k := i
		for k+1 < len(list) && list[k+1] == list[k]+1 {
			k++
		}
		if len(parts) == 50 {
			parts = append(parts, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		if k == i {
			parts = append(parts, fmt.Sprint(list[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", list[i], list[k]))
		}
		i = k + 1
	}
	return strings.Join(parts, ", ")
}
