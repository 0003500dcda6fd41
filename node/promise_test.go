package node_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// promise is an acknowledged workload and how it has to end, whatever happens to
// the nodes meanwhile.
type promise struct {
	id     workload.ID
	kind   string
	phase  workload.Phase
	code   int      // of each task
	tries  uint32   // at least, of each task
	stdout []string // of each task
	output []byte   // of each task, named out; nil is none
	inputs []workload.Ref
}

// asker submits one kind of workload. What it returns was acknowledged.
type asker func(ctx context.Context, c *api.Client, name string) (*promise, error)

// askers are the kinds of workload that the tests of bad luck submit.
var askers = []asker{askSingle, askSingle, askMap, askChain, askFailing}

// promiseNames numbers what is submitted.
var promiseNames atomic.Uint64

// ask submits a workload of a kind under a name of its own.
func ask(ctx context.Context, c *api.Client, kind asker) (*promise, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return kind(ctx, c, fmt.Sprintf("p%d", promiseNames.Add(1)))
}

// send submits a spec and completes what is promised of it.
func send(ctx context.Context, c *api.Client, p promise, spec workload.Spec) (*promise, error) {
	spec.Resources.Memory, spec.Resources.Disk = 16<<20, 2<<20
	sub, err := c.Submit(ctx, spec)
	if err != nil {
		return nil, err
	}
	p.id = sub.ID
	return &p, nil
}

// askSingle submits a singleton. Its command line holds a word by which a
// witness knows it.
func askSingle(ctx context.Context, c *api.Client, name string) (*promise, error) {
	script := fmt.Sprintf("sleep 0.3; echo %s%s-end; head -c 20000 /dev/zero | tr '\\0' x > $PERRIN_OUT/out", witnessWord, name)
	return send(ctx, c, promise{
		kind: "single", phase: workload.Succeeded, tries: 1, stdout: []string{witnessWord + name + "-end\n"},
		output: bytes.Repeat([]byte("x"), 20000),
	}, shell(1, script))
}

// askMap submits three tasks, each with an input of its own that is too large to
// ride along.
func askMap(ctx context.Context, c *api.Client, name string) (*promise, error) {
	p := promise{kind: "map", phase: workload.Succeeded, tries: 1}
	spec := shell(3, "head -n 1 in; wc -c < in")
	for i := range 3 {
		head := fmt.Sprintf("%s-%d\n", name, i)
		ref, err := c.PutBlob(ctx, strings.NewReader(head+strings.Repeat("y", 300_000+i)))
		if err != nil {
			return nil, err
		}
		p.inputs = append(p.inputs, ref)
		p.stdout = append(p.stdout, fmt.Sprintf("%s%d\n", head, len(head)+300_000+i))
		spec.Tasks.Inline = append(spec.Tasks.Inline, workload.Task{
			Name: fmt.Sprint("t", i), Inputs: []workload.Input{{Path: "in", Kind: workload.File, Blob: ref}},
		})
	}
	return send(ctx, c, p, spec)
}

// askShipped submits a program that goes along, and prints more than rides in a
// result.
func askShipped(ctx context.Context, c *api.Client, name string) (*promise, error) {
	script := fmt.Sprintf("#!/bin/sh\necho %s; head -c 50000 /dev/zero | tr '\\0' z\nexit 0\n", name) + strings.Repeat("# a long program\n", 20_000)
	ref, err := c.PutBlob(ctx, strings.NewReader(script))
	if err != nil {
		return nil, err
	}
	spec := shell(1, "")
	spec.Program, spec.Args = workload.Program{Kind: workload.Process, Name: "shipped", Blob: ref}, nil
	return send(ctx, c, promise{
		kind: "shipped", phase: workload.Succeeded, tries: 1, inputs: []workload.Ref{ref},
		stdout: []string{name + "\n" + strings.Repeat("z", 50_000)},
	}, spec)
}

// askChain submits a workload, and promises the one that comes after it.
func askChain(ctx context.Context, c *api.Client, name string) (*promise, error) {
	first, err := send(ctx, c, promise{}, shell(1, fmt.Sprintf("echo link-%s > $PERRIN_OUT/link", name)))
	if err != nil {
		return nil, err
	}
	spec := shell(1, "cat $(find after/first -type f)")
	spec.After = []workload.After{{Workload: first.id, Name: "first"}}
	return send(ctx, c, promise{
		kind: "chain", phase: workload.Succeeded, tries: 1, stdout: []string{"link-" + name + "\n"},
	}, spec)
}

// askFailing submits a task that fails each of its three tries.
func askFailing(ctx context.Context, c *api.Client, name string) (*promise, error) {
	spec := shell(1, fmt.Sprintf("echo no-%s; exit 3", name))
	spec.Retries = 2
	return send(ctx, c, promise{
		kind: "failing", phase: workload.Failed, code: 3, tries: 3, stdout: []string{"no-" + name + "\n"},
	}, spec)
}

// kept waits until the workload has ended and compares it with the promise.
func (p *promise) kept(ctx context.Context, c *api.Client) error {
	w, err := c.Wait(ctx, p.id, 0, time.Minute)
	for err == nil && !w.Phase.Ended() {
		w, err = c.Wait(ctx, p.id, w.Version, time.Minute)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", p.kind, p.id, err)
	}
	tasks, err := c.Tasks(ctx, p.id, 0, w.Tasks.Total)
	if err != nil {
		return fmt.Errorf("%s %s: results: %w", p.kind, p.id, err)
	}
	if w.Phase != p.phase || int(w.Tasks.Total) != len(p.stdout) {
		return fmt.Errorf("%s %s: %s (%s) with %d tasks, want %s with %d: %s", p.kind, p.id, w.Phase, w.Reason, w.Tasks.Total, p.phase, len(p.stdout), ends(tasks))
	}
	for i, task := range tasks {
		if err := p.task(ctx, c, i, task.Result); err != nil {
			return fmt.Errorf("%s %s: task %d: %w", p.kind, p.id, i, err)
		}
	}
	for _, ref := range p.inputs {
		data, err := content(ctx, c, ref, nil)
		if err != nil || workload.DigestOf(data) != ref.Digest {
			return fmt.Errorf("%s %s: input of %d bytes: %d read, %w", p.kind, p.id, ref.Size, len(data), err)
		}
	}
	return nil
}

// ends tells how tasks ended.
func ends(tasks []api.Task) string {
	var out strings.Builder
	for _, t := range tasks {
		if r := t.Result; r != nil {
			fmt.Fprintf(&out, "[%d on %s: %s %d %s %.200q]", t.Index, t.On, r.Exit, r.Code, r.Detail, r.Stderr.Data)
		}
	}
	return out.String()
}

func (p *promise) task(ctx context.Context, c *api.Client, i int, r *workload.TaskResult) error {
	if r == nil {
		return fmt.Errorf("has no result")
	}
	if r.ExitCode() != p.code || r.Attempt < p.tries {
		return fmt.Errorf("exit code %d in attempt %d (%s), want %d in %d or later", r.ExitCode(), r.Attempt, r.Detail, p.code, p.tries)
	}
	stdout, err := content(ctx, c, r.Stdout.Blob, r.Stdout.Data)
	if err != nil || string(stdout) != p.stdout[i] {
		return fmt.Errorf("stdout %.80q, %w; want %.80q", stdout, err, p.stdout[i])
	}
	if p.output == nil {
		return nil
	}
	if len(r.Outputs) != 1 || r.Outputs[0].Path != "out" {
		return fmt.Errorf("outputs %+v, want one", r.Outputs)
	}
	got, err := content(ctx, c, r.Outputs[0].Blob, r.Outputs[0].Data)
	if err != nil || !bytes.Equal(got, p.output) {
		return fmt.Errorf("output of %d bytes, %w; want %d", len(got), err, len(p.output))
	}
	return nil
}

// content is what rides along, or else the blob's.
func content(ctx context.Context, c *api.Client, ref workload.Ref, data []byte) ([]byte, error) {
	if ref.IsZero() {
		return data, nil
	}
	r, err := c.OpenBlob(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
