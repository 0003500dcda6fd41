package guest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// attempt is one run of a command, as the machine's init sees it.
type attempt struct {
	m      *machine
	id     uint32
	req    guestwire.Request
	out    *frame.Writer
	inputs *inputs
	stdin  *queue
	unit   *unitServer
	over   chan struct{} // closed once Done has been said and all is cleared

	mu    sync.Mutex
	init  *os.Process // of the attempt's namespaces
	asked bool        // to terminate, before there was an init
}

// begin starts an attempt in the background. An error is the node's fault or
// the machine's.
func (m *machine) begin(f frame.Frame, out *frame.Writer) (*attempt, error) {
	a := &attempt{m: m, id: f.Attempt, out: out, stdin: newQueue(), over: make(chan struct{})}
	if err := f.Decode(&a.req); err != nil {
		return nil, err
	}
	setClock(a.req.Now)
	if err := a.mountFolders(); err != nil {
		return nil, err
	}
	a.inputs = newInputs(inputsDir, len(a.req.Mounts) > 0)
	var err error
	if a.unit, err = newUnitServer(a); err != nil {
		return nil, err
	}
	go func() {
		defer close(a.over)
		reply := a.run()
		a.unit.close()
		if err := sendOutputs(filepath.Join(scratchDir, "out"), a.out, a.id); err != nil {
			say("outputs: %v", err)
		}
		a.unmount()
		_ = a.out.SendJSON(frame.Done, a.id, reply) // when the port has failed, serve knows
	}()
	return a, nil
}

// setClock sets the machine's clock when it is off by more than a second.
func setClock(now int64) {
	if d := time.Since(time.Unix(0, now)); d.Abs() > time.Second {
		tv := unix.NsecToTimeval(now)
		_ = unix.Settimeofday(&tv)
	}
}

// mountFolders makes what the attempt may write to, in memory and bounded.
func (a *attempt) mountFolders() error {
	size := ""
	if a.req.Disk > 0 {
		size = "size=" + strconv.FormatInt(a.req.Disk, 10)
	}
	err := errors.Join(mount("scratch", "tmpfs", scratchDir, unix.MS_NOSUID|unix.MS_NODEV, size),
		mount("inputs", "tmpfs", inputsDir, unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"),
		mount("unit", "tmpfs", unitDir, unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=64k"))
	for _, dir := range []string{"upper", "overlay", "work", "out", "tmp"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(scratchDir, dir), 0o755))
	}
	return errors.Join(err, os.Chmod(filepath.Join(scratchDir, "tmp"), 0o777|os.ModeSticky))
}

func (a *attempt) unmount() {
	for _, dir := range []string{scratchDir, inputsDir, unitDir} {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			say("unmount %s: %v", dir, err)
		}
	}
}

// report is what an attempt's own init says, a line of JSON each.
type report struct {
	Started bool   `json:"started,omitempty"`
	NoExec  string `json:"no_exec,omitempty"`
	Code    int32  `json:"code,omitempty"`
	Signal  int32  `json:"signal,omitempty"`
	Peak    int64  `json:"peak,omitempty"`
}

// run runs the command to its end, with everything that it started.
func (a *attempt) run() (reply guestwire.Reply) {
	if err := a.inputs.wait(); err != nil {
		return guestwire.Reply{Code: 126, NoExec: "inputs: " + err.Error(), Full: errors.Is(err, unix.ENOSPC)}
	}
	killed := oomKills()
	group := a.newCgroup()
	defer group.remove()
	said, err := a.start(group)
	if err != nil {
		return guestwire.Reply{Code: 126, NoExec: err.Error()}
	}
	reply.Signal = int32(unix.SIGKILL) // unless its init lives to tell
	for {
		var r report
		if err := said.Decode(&r); err != nil {
			break // the last one has been
		}
		if r.Started {
			_ = a.out.Send(guestwire.Started, a.id, nil)
			continue
		}
		reply = guestwire.Reply{Code: r.Code, Signal: r.Signal, NoExec: r.NoExec, Peak: r.Peak}
	}
	reply.Memory = oomKills() > killed
	reply.Peak = max(reply.Peak, group.peak())
	reply.Full = full(scratchDir)
	return reply
}

// start starts the attempt's init, which starts the command.
func (a *attempt) start(group *cgroup) (*json.Decoder, error) {
	config, err := json.Marshal(initConfig{Lower: a.m.lower, Request: a.req})
	if err != nil {
		return nil, err
	}
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reportW.Close()
	configR, configW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer configR.Close()
	cmd := exec.Command("/proc/self/exe", roleAttempt)
	cmd.ExtraFiles = []*os.File{configR, reportW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	if group != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.dir.Fd())
	}
	stdin, err := a.streams(cmd)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the attempt's init: %w", err)
	}
	go a.stdin.drainTo(stdin, a.more)
	if !a.req.Stdin {
		a.stdin.end()
	}
	go func() {
		defer configW.Close()
		_, _ = configW.Write(config)
	}()
	a.attach(cmd.Process)
	return json.NewDecoder(&ended{r: bufio.NewReader(reportR), wait: cmd.Wait}), nil
}

// ended reads r to its end and then waits for the process, whose end is that of
// all in its namespaces and of its streams.
type ended struct {
	r    io.Reader
	wait func() error
	once sync.Once
}

func (e *ended) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil {
		e.once.Do(func() { _ = e.wait() })
	}
	return n, err
}

// streams connects the command's streams to frames.
func (a *attempt) streams(cmd *exec.Cmd) (stdin io.WriteCloser, err error) {
	cmd.Stdout = &stream{a, frame.Stdout}
	cmd.Stderr = &stream{a, frame.Stderr}
	return cmd.StdinPipe()
}

// stream sends what is written to it.
type stream struct {
	a    *attempt
	kind frame.Type
}

func (s *stream) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), frame.MaxStream)
		if err := s.a.out.Send(s.kind, s.a.id, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func (a *attempt) attach(p *os.Process) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.init = p
	if a.asked {
		_ = p.Signal(unix.SIGTERM)
	}
}

// terminate asks the command to end.
func (a *attempt) terminate() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = true
	if a.init != nil {
		_ = a.init.Signal(unix.SIGTERM)
	}
}

// full reports whether nothing can be written to the file system at dir.
func full(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Blocks > 0 && st.Bavail == 0
}

// oomKills is how often the kernel has killed for memory since it started.
func oomKills() int64 {
	text, _ := os.ReadFile("/proc/vmstat")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}
