package study

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/perrin-mesh/perrin/simulations/external"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// largestFile bounds what is read of a folder, in bytes.
const largestFile = 4 << 20

// Unlike is the error of a replay that does not come out as the folder says.
type Unlike struct {
	Replication int // from 1
	Want, Got   Replication
	Made, This  string // versions of Perrin
}

// Error says which replication differs, and from which version it is.
func (e *Unlike) Error() string {
	return fmt.Sprintf("replication %d has trace %s after %d events, the folder says %s after %d (made by version %s, this is %s)",
		e.Replication, e.Got.Trace, e.Got.Events, e.Want.Trace, e.Want.Events, e.Made, e.This)
}

// ErrNotExact is returned of a folder that no run can repeat event by event.
var ErrNotExact = errors.New("nothing to replay")

// Read returns the manifest of a folder and its scenario as it was run. A folder
// whose scenario was changed since is refused.
func Read(dir string) (*Manifest, *scenario.Scenario, error) {
	text, err := readFile(filepath.Join(dir, "scenario.yaml"))
	if err != nil {
		return nil, nil, err
	}
	data, err := readFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return nil, nil, err
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, nil, fmt.Errorf("manifest.json: %w", err)
	}
	switch {
	case m.Schema != Schema:
		return nil, nil, fmt.Errorf("manifest.json: schema %d, this version reads %d", m.Schema, Schema)
	case m.File != hash(text):
		return nil, nil, fmt.Errorf("scenario.yaml was changed since the run: its hash is %s, the manifest says %s", hash(text), m.File)
	case len(m.Replications) < 1 || len(m.Replications) > scenario.MaxReplications:
		return nil, nil, fmt.Errorf("manifest.json: %d replications", len(m.Replications))
	}
	s, err := scenario.Parse("scenario.yaml", text)
	if err != nil {
		return nil, nil, err
	}
	s.Seed, s.Policy.Name, s.Policy.Command, s.Replications = m.Seed, m.Policy, m.Command, len(m.Replications)
	if err := external.Identify(s); err != nil {
		return nil, nil, err
	}
	if s.Policy.Program != m.Program {
		return nil, nil, fmt.Errorf("the files of the policy %q were changed since the run, or are not here: run it from the folder where it was run", m.Command)
	}
	if s.Hash() != m.Hash {
		return nil, nil, fmt.Errorf("this version reads scenario.yaml otherwise than version %s did: a default or a field has changed", m.Perrin)
	}
	return &m, s, nil
}

func readFile(name string) ([]byte, error) { return readAtMost(name, largestFile) }

// HowRun returns Model or Stack.
func (m *Manifest) HowRun() string {
	if m.Fidelity == "" {
		return Model
	}
	return m.Fidelity
}

// Exact returns ErrNotExact of a study that no run can repeat event by event.
func (m *Manifest) Exact() error {
	if m.HowRun() == Model {
		return nil
	}
	return fmt.Errorf("%w: it is of whole nodes (fidelity %.20s), whose runs differ a little each time", ErrNotExact, m.Fidelity)
}

// CheckLogs compares the files of events and histories in a folder with their SHA-256
// in the manifest. One that is missing or was changed is an error.
func (m *Manifest) CheckLogs(dir string) error {
	for _, l := range m.Logs {
		if l.File != filepath.Base(l.File) || !filepath.IsLocal(l.File) {
			return fmt.Errorf("manifest.json: %.60q is no file of the folder", l.File)
		}
		got, err := hashOf(filepath.Join(dir, l.File))
		if err != nil {
			return err
		}
		if got != l.SHA256 {
			return fmt.Errorf("%s was changed since the run: its hash is %s, the manifest says %.64q", l.File, got, l.SHA256)
		}
	}
	return nil
}

// hashOf is hash of a regular file of any size.
func hashOf(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: want a file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Replay runs a study again and wants the events of its manifest. The error is an
// *Unlike when they are others.
func Replay(ctx context.Context, m *Manifest, s *scenario.Scenario, version string, o Options) (*Outcome, error) {
	out, err := Run(ctx, s, o)
	if err != nil {
		return nil, err
	}
	for i, want := range m.Replications {
		r := out.Results[i]
		if got := (Replication{Seed: r.Seed, Events: r.Events, Trace: r.Trace}); got != want {
			return nil, &Unlike{Replication: i + 1, Want: want, Got: got, Made: m.Perrin, This: version}
		}
	}
	return out, nil
}
