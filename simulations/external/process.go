package external

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// Bounds of a process.
const (
	maxAnswer = 64 << 10 // bytes of a line that it writes
	maxStderr = 4 << 10  // bytes of its last words that are kept
)

// How long a process may take, unless its policy says otherwise.
const (
	defaultTimeout = 10 * time.Second
	endWithin      = 2 * time.Second // after its standard input was closed
)

// Broken is the error of a process that did not keep to the protocol.
type Broken struct {
	Command string
	Line    uint64 // to which there is no answer, from 1; 1 is the hello
	Reason  string
	Answer  string // what it wrote, when that is what is wrong
	Stderr  string // its last words
}

// Error names the command, the line and what is wrong.
func (b *Broken) Error() string {
	text := fmt.Sprintf("policy %q, answer to line %d: %s", b.Command, b.Line, b.Reason)
	if b.Answer != "" {
		text += fmt.Sprintf(": it wrote %.200q", b.Answer)
	}
	if b.Stderr != "" {
		text += fmt.Sprintf("; the end of its standard error: %q", b.Stderr)
	}
	return text
}

// Process is a policy.Chooser that asks a process. It is not safe for concurrent
// use.
type Process struct {
	ctx     context.Context
	name    string
	timeout time.Duration
	cmd     *exec.Cmd
	in      *os.File
	out     *os.File
	lines   *bufio.Reader
	last    *tail
	line    uint64
	gone    atomic.Bool // it was waited for
}

// Start starts the process of a scenario's policy and greets it; its working folder
// and its environment are those of this program. The caller closes it. The process
// is killed when ctx ends.
func Start(ctx context.Context, sc *scenario.Scenario, seed uint64) (*Process, error) {
	words := strings.Fields(sc.Policy.Command)
	if len(words) == 0 {
		return nil, policy.ErrNoChooser
	}
	p := &Process{ctx: ctx, name: sc.Policy.Command, timeout: time.Duration(sc.Policy.Timeout), last: &tail{}}
	if p.timeout <= 0 {
		p.timeout = defaultTimeout
	}
	if err := p.start(words); err != nil {
		return nil, err
	}
	line, err := p.ask(helloOf(sc, seed))
	if err == nil {
		if err = readReady(line); err != nil {
			err = p.broken(err.Error(), line)
		}
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// start runs the command with a pipe at each end. The pipes are ours and not those
// of os/exec, since only files take deadlines.
func (p *Process) start(words []string) error {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return errors.Join(err, theirIn.Close(), in.Close())
	}
	p.in, p.out, p.lines = in, out, bufio.NewReaderSize(out, maxAnswer)
	p.cmd = exec.Command(words[0], words[1:]...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirIn, theirOut, p.last
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts ends with it
	p.cmd.WaitDelay = endWithin
	err = errors.Join(p.cmd.Start(), theirIn.Close(), theirOut.Close())
	if err != nil {
		p.gone.Store(true)
		return errors.Join(fmt.Errorf("policy %q cannot be started: %w", p.name, err), in.Close(), out.Close())
	}
	return nil
}

// Choose implements policy.Chooser.
func (p *Process) Choose(q *policy.Question) ([]int, error) {
	question := questionOf(p.line, q) // the hello was line 1
	line, err := p.ask(question)
	if err != nil {
		return nil, err
	}
	picked, err := readAnswer(line, &question)
	if err != nil {
		return nil, p.broken(err.Error(), line)
	}
	return picked, nil
}

// ask writes a line and returns the next line of the process, valid until the next
// call.
func (p *Process) ask(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	p.line++
	stop := context.AfterFunc(p.ctx, p.kill)
	defer stop()
	deadline := time.Now().Add(p.timeout)
	if err := errors.Join(p.in.SetWriteDeadline(deadline), p.out.SetReadDeadline(deadline)); err != nil {
		return nil, err
	}
	_, err = p.in.Write(append(text, '\n'))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, p.failed(fmt.Sprintf("it did not read the line within %s", p.timeout))
	}
	line, err := p.lines.ReadSlice('\n')
	switch {
	case err == nil:
		return bytes.TrimSpace(line), nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, p.broken(fmt.Sprintf("the line is longer than %d bytes", maxAnswer), line[:64])
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, p.failed(fmt.Sprintf("there is none after %s", p.timeout))
	}
	return nil, p.failed("it ended: " + p.wait())
}

// failed says why there is no answer: a run that was interrupted, or the process.
func (p *Process) failed(reason string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	return p.broken(reason, nil)
}

func (p *Process) broken(reason string, answer []byte) error {
	p.kill()
	p.wait()
	return &Broken{Command: p.name, Line: p.line, Reason: reason, Answer: string(answer), Stderr: p.last.String()}
}

// kill ends the process and what it has started.
func (p *Process) kill() {
	if !p.gone.Load() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // no such process is as well
	}
}

// wait waits for the end of the process, for endWithin, and returns how it came.
func (p *Process) wait() string {
	if !p.gone.Load() {
		late := time.AfterFunc(endWithin, p.kill)
		err := p.cmd.Wait()
		p.gone.Store(true)
		late.Stop()
		if err != nil && p.cmd.ProcessState == nil {
			return err.Error()
		}
	}
	return p.cmd.ProcessState.String()
}

// Close ends the process: it reads the end of its input, and is killed when it
// does not end by itself.
func (p *Process) Close() {
	_ = p.in.Close()
	p.wait()
	_ = p.out.Close()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-maxStderr):]
	return len(b), nil
}

// String returns the end, without white space around it.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
