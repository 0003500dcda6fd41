package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"

	machine "github.com/perrin-mesh/perrin/node/load"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile"
)

func notEmpty(s string) error {
	if s == "" {
		return errors.New("is empty")
	}
	return nil
}

// maxName bounds a node's name, in bytes.
const maxName = 63

func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
}

func checkName(s string) error {
	if s == "" || len(s) > maxName || strings.ContainsFunc(s, func(r rune) bool { return !nameRune(r) }) {
		return fmt.Errorf("want a name of 1 to %d letters, digits, dots, dashes and underlines, got %.80q", maxName, s)
	}
	return nil
}

func checkAddr(s string) error {
	if _, err := multiaddr.NewMultiaddr(s); err != nil {
		return fmt.Errorf("%.100q is not a multiaddr; want one such as /ip4/0.0.0.0/udp/4511/quic-v1", s)
	}
	return nil
}

func checkLabel(s string) error {
	name, _, ok := strings.Cut(s, "=")
	if !ok || name == "" || len(name) > 63 {
		return fmt.Errorf("want NAME=VALUE, got %.80q", s)
	}
	for _, own := range []string{"kind-", "wall-", "attest-"} {
		if strings.HasPrefix(name, own) {
			return fmt.Errorf("the label %.80q would claim what only the node's own tests may say", name)
		}
	}
	if _, err := workload.ParseWhere(name); err != nil {
		return fmt.Errorf("%.80q cannot be a label's name: --where could not ask for it", name)
	}
	return nil
}

func checkMode(s string) error {
	if s != "0600" && s != "0660" && s != "600" && s != "660" {
		return fmt.Errorf("want 0600 or 0660, got %.20q", s)
	}
	return nil
}

func whole(low, high int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return fmt.Errorf("want a whole number from %d to %d, got %.40q", low, high, s)
		}
		return nil
	}
}

func checkSize(s string) error {
	n, err := specfile.ParseSize(s)
	if err == nil && n != 0 && (n < workload.MinMemory || n > workload.MaxMemory) {
		return fmt.Errorf("want 0, or 1 MiB to 1 PiB, got %.40q", s)
	}
	return err
}

// parseReserve reads cores=N,memory=SIZE, either or both.
func parseReserve(s string) (cores int, memory int64, err error) {
	seen := map[string]bool{}
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case seen[name]:
			return 0, 0, fmt.Errorf("%s is given twice", name)
		case name == "cores":
			err = whole(0, workload.MaxCPUs)(value)
			cores, _ = strconv.Atoi(value)
		case name == "memory":
			err = checkSize(value)
			memory, _ = specfile.ParseSize(value)
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return 0, 0, fmt.Errorf("want cores=2,memory=4GiB, or one of them, got %.80q", s)
		}
		seen[name] = true
	}
	return cores, memory, nil
}

func checkReserve(s string) error {
	_, _, err := parseReserve(s)
	return err
}

func checkHours(s string) error {
	_, err := machine.ParseHours(s)
	return err
}

func checkLevel(s string) error {
	var l slog.Level
	if l.UnmarshalText([]byte(s)) != nil {
		return fmt.Errorf("want debug, info, warn or error, got %.40q", s)
	}
	return nil
}

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("want %s, got %.40q", strings.Join(words, " or "), s)
		}
		return nil
	}
}

func checkBool(s string) error {
	if _, err := strconv.ParseBool(s); err != nil {
		return fmt.Errorf("want true or false, got %.40q", s)
	}
	return nil
}

func checkBlobLimit(s string) error {
	n, err := specfile.ParseSize(s)
	if err == nil && n < 64<<20 {
		return fmt.Errorf("want 64 MiB or more, got %.40q", s)
	}
	return err
}

func checkLease(s string) error {
	d, err := specfile.ParseDuration(s)
	if err == nil && (d < time.Second || d > 10*time.Minute) {
		return fmt.Errorf("want 1s to 10m, got %.40q", s)
	}
	return err
}
