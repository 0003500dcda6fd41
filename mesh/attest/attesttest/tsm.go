package attesttest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/attest/collect"
)

// TSM is a folder of reports below a root, which behaves as the kernel's does:
// a new entry has its attributes, and a written inblob makes a report.
type TSM struct {
	collect.Folder
	Provider string
	// Make makes a report of what was written, and what goes along.
	Make func(data [64]byte) (report, aux []byte, err error)
	// Meddle, if any, runs after each report, as another process of the machine would.
	Meddle func(entry string)
	t      testing.TB
}

// NewTSM makes a folder below root.
func NewTSM(t testing.TB, root, provider string) *TSM {
	s := &TSM{Folder: collect.Folder{Root: root}, Provider: provider, t: t}
	if err := os.MkdirAll(s.at(), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *TSM) at(parts ...string) string {
	return filepath.Join(append([]string{s.Root, collect.TSMFolder}, parts...)...)
}

// Left lists the entries that are there.
func (s *TSM) Left() int {
	list, err := os.ReadDir(s.at())
	if err != nil {
		s.t.Fatal(err)
	}
	return len(list)
}

// Mkdir implements collect.TSM.
func (s *TSM) Mkdir(name string) error {
	if err := s.Folder.Mkdir(name); err != nil {
		return err
	}
	s.put(name, "provider", []byte(s.Provider+"\n"))
	s.put(name, "generation", []byte("0\n"))
	s.put(name, "inblob", nil)
	return nil
}

func (s *TSM) put(name, attribute string, b []byte) {
	if err := os.WriteFile(s.at(name, attribute), b, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Bump counts a change of an entry.
func (s *TSM) Bump(name string) {
	b, err := os.ReadFile(s.at(name, "generation"))
	if err != nil {
		s.t.Fatal(err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	s.put(name, "generation", []byte(strconv.Itoa(n+1)+"\n"))
}

// Write implements collect.TSM.
func (s *TSM) Write(name, attribute string, b []byte) error {
	if err := s.Folder.Write(name, attribute, b); err != nil {
		return err
	}
	report, aux, err := s.Make([64]byte(b))
	if err != nil {
		return err
	}
	s.Bump(name)
	s.put(name, "outblob", report)
	if aux != nil {
		s.put(name, "auxblob", aux)
	}
	if s.Meddle != nil {
		s.Meddle(name)
	}
	return nil
}

// Remove implements collect.TSM: the kernel removes attributes with their entry.
func (s *TSM) Remove(name string) error { return os.RemoveAll(s.at(name)) }
