package study

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// Versions of what the logs have (docs/simulation.md). A field that comes later does
// not change them; one that goes or means something else does.
const (
	EventsVersion  = 1
	HistoryVersion = 1
)

// LogFormats are the formats of a log of events.
var LogFormats = []string{"jsonl", "csv", "jsonl.gz", "csv.gz", "parquet"}

// Logs are files with more than figures, one for each replication. They are written
// as the run goes, in bounded memory.
type Logs struct {
	Dir     string
	Events  string // a format; "" is no log of every event
	History bool   // whether to write the operations that a checker of histories reads
}

// LogFile is a log in a folder.
type LogFile struct {
	File   string `json:"file"`
	Schema string `json:"schema"` // such as "perrin.events/1"
	Rows   uint64 `json:"rows"`
	SHA256 string `json:"sha256"`
}

// logs are the open logs of a replication.
type logs struct {
	files []*logFile
	ends  []func() error // what is to be written at the end of the run
}

// open begins the logs of a replication, counted from 0.
func (l *Logs) open(w *model.World, sc *scenario.Scenario, n int) (*logs, error) {
	out := &logs{}
	if l.Events != "" {
		f, err := out.create(filepath.Join(l.Dir, fmt.Sprintf("events-%d.%s", n+1, l.Events)), "perrin.events", EventsVersion)
		if err != nil {
			return nil, err
		}
		switch {
		case l.Events == "parquet":
			rows, end, err := eventTable(f, sc, n)
			if err != nil {
				return nil, errors.Join(err, out.close(err))
			}
			w.Watch(rows)
			out.ends = append(out.ends, end)
		case strings.HasPrefix(l.Events, "csv"):
			w.Watch(eventRows(f))
		default:
			w.Watch(eventLines(f, sc, n))
		}
	}
	if l.History {
		f, err := out.create(filepath.Join(l.Dir, fmt.Sprintf("history-%d.jsonl", n+1)), "perrin.history", HistoryVersion)
		if err != nil {
			return nil, errors.Join(err, out.close(err))
		}
		h := &history{to: f, open: map[int32]submission{}}
		w.Observe(h.take)
		out.ends = append(out.ends, h.end)
	}
	return out, nil
}

// logFile is a log while it is written: beside its place, and moved there when it is
// whole.
type logFile struct {
	LogFile
	path string
	file *os.File
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
	zip *gzip.Writer // nil of a plain one
	out *bufio.Writer
	err error // the first
}

func (l *logs) create(path, schema string, version int) (*logFile, error) {
	file, err := os.Create(path + ".part")
	if err != nil {
		return nil, err
	}
	f := &logFile{LogFile: LogFile{File: filepath.Base(path), Schema: fmt.Sprintf("%s/%d", schema, version)}, path: path, file: file, sum: sha256.New()}
	var to io.Writer = io.MultiWriter(file, f.sum)
	if strings.HasSuffix(path, ".gz") {
		if f.zip, err = gzip.NewWriterLevel(to, gzip.BestSpeed); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		to = f.zip
	}
	f.out = bufio.NewWriterSize(to, 1<<16)
	l.files = append(l.files, f)
	return f, nil
}

// row writes a row.
func (f *logFile) row(text []byte) {
	if _, err := f.out.Write(text); err != nil && f.err == nil {
		f.err = fmt.Errorf("write %s: %w", f.File, err)
	}
	f.Rows++
}

// err is the first error of a file; a disk that is full ends the run.
func (l *logs) err() error {
	for _, f := range l.files {
		if f.err != nil {
			return f.err
		}
	}
	return nil
}

// close finishes the files, or removes them after an error, and returns the first.
func (l *logs) close(err error) error {
	for _, end := range l.ends {
		if err == nil {
			err = end()
		}
	}
	for _, f := range l.files {
		if err == nil {
			err = f.finish()
		}
		err = errors.Join(err, f.file.Close())
	}
	for _, f := range l.files {
		if err != nil {
			err = errors.Join(err, os.Remove(f.path+".part"))
		} else if err = os.Rename(f.path+".part", f.path); err == nil {
			f.SHA256 = hex.EncodeToString(f.sum.Sum(nil))
		}
	}
	return err
}

func (f *logFile) finish() error {
	if f.err != nil {
		return f.err
	}
	if err := f.out.Flush(); err != nil {
		return err
	}
	if f.zip != nil {
		return f.zip.Close()
	}
	return nil
}

// list is what a manifest says of the files.
func (l *logs) list() (out []LogFile) {
	for _, f := range l.files {
		out = append(out, f.LogFile)
	}
	return out
}
