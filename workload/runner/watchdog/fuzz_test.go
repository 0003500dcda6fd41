package watchdog

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzPackets hands the supervisor packets of arbitrary bytes, one for each
// line, as a daemon that has lost its mind would, some with the descriptor of a
// process that has ended. The supervisor takes or refuses each, tells who is due, and
// closes every descriptor when a sandbox is gone.
func FuzzPackets(f *testing.F) {
	packet := func(messages ...Message) (out []byte) {
		for _, m := range messages {
			b, err := json.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			out = append(append(out, b...), '\n')
		}
		return out
	}
	grant := Message{Op: OpGrant, Keys: []string{"a", "b"}, Deadline: Now() + 1e12}
	add := Message{Op: OpAdd, Keys: []string{"a"}, ID: 1}
	f.Add(packet(grant, add, Message{Op: OpDrop, Keys: []string{"a"}, ID: 1}))
	f.Add(packet(grant, add, Message{Op: OpForget, Keys: []string{"a"}}))
	f.Add(packet(grant, add, add, Message{Op: OpAdd, Keys: []string{"a", "b"}, ID: 2}))
	f.Add(packet(add, Message{Op: OpGrant, Keys: []string{"a"}, Deadline: 1}))
	f.Add([]byte("{}\n[]\nnull\n{\"op\":\"killed\"}"))
	dead := endedProcess(f)
	f.Fuzz(func(t *testing.T, lines []byte) {
		before := descriptors(t)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		s := &server{sock: pair[1], timer: -1, table: NewTable(), boxes: map[uint64]*sandbox{}, offset: sleepOffset()}
		buf := make([]byte, MaxPacket)
		for line := range bytes.Lines(lines[:min(len(lines), 8<<10)]) {
			var m Message
			if json.Unmarshal(line, &m) == nil && len(m.Cgroups) > 0 {
				continue // a path is the daemon's word: what it names is struck
			}
			if err := unix.Sendmsg(pair[0], line, unix.UnixRights(dead), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
				t.Fatal(err)
			}
			if !s.receive(buf) {
				break
			}
			s.step()
			drain(t, pair[0])
		}
		s.finish()
		if len(s.boxes) > 0 {
			t.Errorf("%d sandboxes of a process that has ended are left", len(s.boxes))
		}
		unix.Close(pair[0])
		unix.Close(pair[1])
		if after := descriptors(t); after > before { // fewer when an unused file was collected
			t.Errorf("%d descriptors are open, %d were", after, before)
		}
	})
}

// endedProcess returns a pidfd of a process that is gone.
func endedProcess(f *testing.F) int {
	f.Helper()
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	if err != nil {
		f.Fatal(err)
	}
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { unix.Close(fd) })
	if _, err := p.Wait(); err != nil {
		f.Fatal(err)
	}
	return fd
}

// drain reads what the supervisor says, which must be messages.
func drain(t *testing.T, sock int) {
	buf := make([]byte, MaxPacket)
	for {
		n, _, err := unix.Recvfrom(sock, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		var m Message
		if err := json.Unmarshal(buf[:n], &m); err != nil || m.Op == "" {
			t.Errorf("the supervisor says %q", buf[:n])
		}
	}
}

func descriptors(t *testing.T) int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// FuzzJournal reads arbitrary bytes as a journal.
func FuzzJournal(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "journal")
	j := openJournal(path, 1)
	for _, op := range []RecordOp{RecordBegin, RecordStart, RecordEnd, RecordClose} {
		j.write(Record{Op: op, At: 2, Key: "w/1", ID: 3})
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-5])
	f.Add([]byte("\n\n{}\nx"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		records, err := ReadJournal(path)
		if err == nil && len(records) > bytes.Count(raw, []byte("\n")) {
			t.Errorf("%d records in %d lines", len(records), bytes.Count(raw, []byte("\n")))
		}
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		if err != nil && !errors.As(err, &syntax) && !errors.As(err, &kind) {
			t.Errorf("%v, want a line that is no record", err)
		}
	})
}
