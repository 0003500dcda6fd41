package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// vmPath is where a command's bare name is looked up in the guest.
var vmPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// run is one attempt on a machine that is ready.
type run struct {
	m     *machine
	id    uint32
	a     runner.Attempt
	spec  *workload.Spec
	began func() // called when the command runs

	started, ended time.Time
	taken          error // of unpacking the outputs

	streams map[frame.Type]io.Writer
	credit  *credit
	unit    *unitProxy
	outputs *io.PipeWriter
	done    chan struct{} // closed when the outputs are unpacked
}

// drive says to the guest what to run and serves it until it says how that
// ended. An error means that the machine is of no more use.
func (r *run) drive() (reply guestwire.Reply, err error) {
	r.streams = map[frame.Type]io.Writer{frame.Stdout: r.a.Stdout, frame.Stderr: r.a.Stderr}
	r.credit = newCredit(guestwire.StdinWindow)
	r.unit = newUnitProxy(r)
	defer r.finish()
	if err := r.m.out.SendJSON(frame.Run, r.id, r.request()); err != nil {
		return reply, errBrokeOff
	}
	r.m.asks(r.id)
	defer r.m.asks(0)
	go r.feed()
	for {
		f, err := r.m.in.Next()
		if err != nil {
			return reply, r.brokeOff(err)
		}
		if f.Type == frame.Done && f.Attempt == r.id {
			return reply, f.Decode(&reply)
		}
		if err := r.take(f); err != nil {
			return reply, err
		}
	}
}

// brokeOff tells a malformed frame from a machine that is gone.
func (r *run) brokeOff(err error) error {
	if errors.Is(err, frame.ErrFrame) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return errBrokeOff
}

// finish ends what serves the guest, and waits for the outputs.
func (r *run) finish() {
	r.ended = time.Now()
	r.credit.close()
	r.unit.close()
	if r.outputs != nil {
		r.outputs.CloseWithError(io.ErrUnexpectedEOF) // unless it was closed before
		<-r.done
	}
}

func (r *run) request() guestwire.Request {
	env := runner.Environ(r.a, vmPath)
	req := guestwire.Request{Args: r.a.Args, Env: env, Unit: r.a.Unit != nil, Stdin: r.a.Stdin != nil,
		Pids: int64(r.spec.Resources.Pids), Disk: r.spec.Resources.Disk, Now: time.Now().UnixNano()}
	for _, m := range r.a.Mounts {
		req.Mounts = append(req.Mounts, m.Target)
	}
	return req
}

// take serves one frame other than the last.
func (r *run) take(f frame.Frame) error {
	late := f.Attempt != r.id // a connection that closes after its attempt
	switch f.Type {
	case guestwire.UnitOpen, guestwire.UnitData, guestwire.UnitClose:
		if late {
			return nil
		}
		return r.unit.take(f)
	}
	if late {
		return fmt.Errorf("%w: of attempt %d during %d", frame.ErrFrame, f.Attempt, r.id)
	}
	switch f.Type {
	case guestwire.Started:
		return r.start()
	case frame.Stdout, frame.Stderr:
		if to := r.streams[f.Type]; to != nil {
			if _, err := to.Write(f.Payload); err != nil {
				r.streams[f.Type] = nil // the rest is discarded
			}
		}
		return nil
	case guestwire.StdinMore:
		if len(f.Payload) != 4 {
			return fmt.Errorf("%w: %d bytes of credit", frame.ErrFrame, len(f.Payload))
		}
		r.credit.add(int64(binary.BigEndian.Uint32(f.Payload)))
		return nil
	case guestwire.Output:
		return r.output(f.Payload)
	}
	return fmt.Errorf("%w: type %d", frame.ErrFrame, f.Type)
}

func (r *run) start() error {
	if !r.started.IsZero() {
		return fmt.Errorf("%w: started twice", frame.ErrFrame)
	}
	r.started = time.Now()
	r.began()
	return nil
}

// maxOutputEntries bounds the files and folders that are taken out of a machine.
const maxOutputEntries = 100_000

// output takes a piece of the archive of outputs; an empty one ends it.
func (r *run) output(piece []byte) error {
	if r.a.Out == "" {
		return nil
	}
	if r.outputs == nil {
		pr, pw := io.Pipe()
		r.outputs, r.done = pw, make(chan struct{})
		go r.unpack(pr)
	}
	if len(piece) == 0 {
		return r.outputs.Close()
	}
	_, err := r.outputs.Write(piece)
	return err
}

// unpack writes the outputs, of a stranger's archive, below the output folder.
func (r *run) unpack(pr *io.PipeReader) {
	defer close(r.done)
	root, err := os.OpenRoot(r.a.Out)
	if err == nil {
		limits := blob.DefaultLimits()
		limits.Entries = maxOutputEntries
		if disk := r.spec.Resources.Disk; disk > 0 {
			limits.Bytes = min(limits.Bytes, disk)
		}
		err = errors.Join(blob.UnpackTree(pr, root, limits), root.Close())
	}
	r.taken = err
	_, _ = io.Copy(io.Discard, pr) // the guest sends it to its end
}

// feed sends the inputs and then stdin.
func (r *run) feed() {
	if len(r.a.Mounts) > 0 {
		if err := sendInputs(r.m.out, r.id, r.a.Mounts); err != nil {
			r.m.Kill() // the machine would wait for ever; what it says last is that it broke off
			return
		}
	}
	if r.a.Stdin == nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.a.Stdin.Read(buf)
		if n > 0 && (!r.credit.take(int64(n)) || r.m.out.Send(frame.Stdin, r.id, buf[:n]) != nil) {
			return
		}
		if err != nil {
			if r.credit.take(0) {
				_ = r.m.out.Send(frame.StdinEnd, r.id, nil) // a dead machine is noticed by who reads from it
			}
			return
		}
	}
}

// asks says which attempt is to be asked to end.
func (m *machine) asks(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = id
}
