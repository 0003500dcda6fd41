package watchdog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// RecordOp says what a Record of the journal is about.
type RecordOp string

// A supervisor writes RecordBegin when it starts and RecordClose when it ends in
// order: nothing that it watched is left then. RecordStart comes before a
// sandbox's program runs, RecordEnd when nothing of the sandbox is left.
const (
	RecordBegin RecordOp = "begin"
	RecordClose RecordOp = "close"
	RecordStart RecordOp = "start"
	RecordEnd   RecordOp = "end"
)

// Record is one line of the journal: what ran under which slot, from when to
// when, by the one clock of the machine. The slot's key names its fence: a slot
// number is never used again.
type Record struct {
	Op    RecordOp `json:"op"`
	At    Instant  `json:"at"`
	Run   Instant  `json:"run"`             // when this supervisor began: tells it from others
	Key   string   `json:"key,omitempty"`   // of the slot
	ID    uint64   `json:"id,omitempty"`    // of the sandbox, within Run
	Why   string   `json:"why,omitempty"`   // it was killed; "" when the daemon saw it end
	Alive bool     `json:"alive,omitempty"` // it lives on: it has passed to another slot
}

// maxJournal bounds the journal's file in bytes. A full one is kept as its only
// predecessor, with oldSuffix, so that a node has at most twice as much.
const (
	maxJournal = 2 << 20
	oldSuffix  = ".old"
)

// journal is the file. Its write never fails: killing in time matters more than
// the evidence of it. A nil journal writes nothing.
type journal struct {
	path string
	run  Instant
	file *os.File
	size int64
	max  int64
}

func openJournal(path string, run Instant) *journal {
	j := &journal{path: path, run: run, max: maxJournal}
	if path == "" || j.open() != nil {
		return nil
	}
	return j
}

func (j *journal) open() error {
	f, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	j.file, j.size = f, info.Size()
	return nil
}

// write appends a record in one system call, so that a reader and a crash see
// whole lines.
func (j *journal) write(r Record) {
	if j == nil {
		return
	}
	r.Run = j.run
	line, err := json.Marshal(r)
	if err != nil {
		return
	}
	line = append(line, '\n')
	if j.size+int64(len(line)) > j.max {
		j.turn()
	}
	n, _ := j.file.Write(line) // a full disk costs evidence, not safety
	j.size += int64(n)
}

// turn begins a new file. Where it cannot, the full one is emptied.
func (j *journal) turn() {
	old := j.file
	if os.Rename(j.path, j.path+oldSuffix) == nil && j.open() == nil {
		old.Close()
		return
	}
	j.file = old
	_ = old.Truncate(0) // the next write says what becomes of it
	j.size = 0
}

// ReadJournal returns what the supervisors of a node have recorded, oldest
// first; a node without a journal has no records. The last line may be torn by a
// crash and is left out then; an error is a line in between that is no record.
func ReadJournal(path string) ([]Record, error) {
	var out []Record
	for _, name := range []string{path + oldSuffix, path} {
		raw, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		whole := raw[:bytes.LastIndexByte(raw, '\n')+1]
		for i, line := range bytes.Split(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n")) {
			var r Record
			if len(line) == 0 {
				continue
			}
			if err := json.Unmarshal(line, &r); err != nil {
				return nil, fmt.Errorf("journal: %s, line %d: %w", name, i+1, err)
			}
			out = append(out, r)
		}
	}
	return out, nil
}
