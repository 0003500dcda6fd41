package main

import (
	"fmt"
	"strings"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// plainReason says a typed reason in words.
func plainReason(r workload.Reason) string {
	text := reasonText(r)
	if r.Note != "" && r.Code != workload.ProgramMissing && r.Code != workload.NoRunner {
		text += ": " + terminal.Clean(r.Note, 200)
	}
	return text
}

func reasonText(r workload.Reason) string {
	switch r.Code {
	case workload.NoCores:
		return shortOf(r, "core", func(n int64) string { return terminal.Plural(int(n), "free core") })
	case workload.NoThreads:
		return shortOf(r, "thread", func(n int64) string { return terminal.Plural(int(n), "free thread") })
	case workload.NoSpare:
		return shortOf(r, "idle thread", func(n int64) string { return terminal.Plural(int(n), "idle thread") })
	case workload.NoMemory:
		return fmt.Sprintf("too little memory: %s of the %s wanted", terminal.Size(r.Have), terminal.Size(r.Want))
	case workload.NoDisk:
		return fmt.Sprintf("too little disk: %s of the %s wanted", terminal.Size(r.Have), terminal.Size(r.Want))
	case workload.PriceAboveMax:
		return fmt.Sprintf("asks %s, above your limit of %s", terminal.Rate(r.Have), terminal.Rate(r.Want))
	case workload.ProgramMissing:
		return fmt.Sprintf("has no program %s", orElse(r.Note, "of that name"))
	case workload.NoRunner:
		if r.Note == string(workload.VM) {
			return "has no KVM, or no QEMU, to run a virtual machine (--allow-tcg lets nodes emulate its processor)"
		}
		if r.Note == string(workload.GVisor) {
			return "has no gVisor (runsc) that passed its self-test"
		}
		return fmt.Sprintf("cannot run %s programs", orElse(r.Note, "such"))
	}
	if text, ok := reasonWords[r.Code]; ok {
		return text
	}
	return terminal.Clean(string(r.Code), 40)
}

func shortOf(r workload.Reason, one string, have func(int64) string) string {
	return fmt.Sprintf("too few %ss: %s of the %d wanted", one, have(r.Have), r.Want)
}

var reasonWords = map[workload.Code]string{
	workload.NoSlots:       "runs as many attempts as it is willing to",
	workload.WhereMismatch: "does not meet --where",
	workload.Draining:      "is draining and takes no more work",
	workload.Avoided:       "is avoided: it failed this workload before",
	workload.NotReached:    "could not be reached",
	workload.NoAnswer:      "did not answer in time",
	workload.OfferExpired:  "has not been heard of lately",
	workload.OverQuota:     "your account's quota is used up",
	workload.HoldGone:      "gave the held capacity away before the award came",
	workload.LeaseTooLate:  "got the award after its first lease had ended",
	workload.StartFailed:   "could not start it",
	workload.NotProved:     "did not prove what is required",
	workload.Busy:          "is too busy to bid",
	workload.Refused:       "refused",
	workload.Outbid:        "was outbid",
	workload.NotCalled:     "was not asked: others looked better",
	workload.RanBefore:     "has run it before: another node must",
}

func plainReasons(list []workload.Reason) string {
	words := make([]string, len(list))
	for i, r := range list {
		words[i] = plainReason(r)
	}
	return strings.Join(words, "; ")
}

// groupReasons counts nodes by their first reason: "2 nodes: has no program x".
// The order is that of the auction.
func groupReasons(a *api.WhyAuction) []string {
	counts := map[string]int{}
	var order []string
	add := func(text string) {
		if counts[text]++; counts[text] == 1 {
			order = append(order, text)
		}
	}
	for _, d := range a.Declines {
		if len(d.Reasons) > 0 {
			add(plainReason(d.Reasons[0]))
		}
	}
	for _, b := range a.Bids {
		if b.Won == 0 {
			add("bid and did not win")
		}
	}
	out := make([]string, len(order))
	for i, text := range order {
		out[i] = terminal.Plural(counts[text], "node") + ": " + text
	}
	return out
}
