package attestor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Told is one time that this node proved something to somebody.
type Told struct {
	To   workload.PeerID `json:"to"`
	Kind workload.Level  `json:"kind"`
	Job  workload.ID     `json:"workload,omitzero"`
	At   time.Time       `json:"at"`
}

// historyBytes bounds the file of what was told, in bytes: KeepTold times take a fifth.
const historyBytes = 64 << 10

// Told lists to whom this node proved something, the last first, of the KeepTold last times.
func (a *Attestor) Told() []Told {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := slices.Clone(a.told)
	slices.Reverse(out)
	return out
}

// note remembers that this node proved something. It is on disk when the answer is sent,
// though not synced: after a power cut the last may be missing.
func (a *Attestor) note(to workload.PeerID, kind workload.Level, job workload.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told[max(0, len(a.told)-KeepTold+1):], Told{To: to, Kind: kind, Job: job, At: a.cfg.Now().UTC()})
	if a.cfg.History == "" || to == a.cfg.Self {
		return
	}
	if err := a.save(); err != nil {
		a.cfg.Log.Warn("whom this machine proved something to is not kept", "err", err)
	}
}

// save writes the file whole, so that a crash leaves the old one or the new. The caller holds mu.
func (a *Attestor) save() error {
	others := slices.DeleteFunc(slices.Clone(a.told), func(t Told) bool { return t.To == a.cfg.Self })
	text, err := json.Marshal(others)
	if err != nil {
		return err
	}
	next := a.cfg.History + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, a.cfg.History)
}

// readHistory reads what save wrote, the last KeepTold times of it. There is none before
// the first.
func readHistory(name string) ([]Told, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, historyBytes+1))
	if err != nil {
		return nil, err
	}
	list, err := parseHistory(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}

func parseHistory(text []byte) (list []Told, err error) {
	if len(text) > historyBytes {
		return nil, fmt.Errorf("over %d bytes", historyBytes)
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	for _, t := range list {
		if t.To.IsZero() || !slices.Contains(workload.Levels, t.Kind) {
			return nil, errors.New("something was proved to nobody, or nothing to somebody")
		}
	}
	return list[max(0, len(list)-KeepTold):], nil
}
