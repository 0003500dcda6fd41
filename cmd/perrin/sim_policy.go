package main

import (
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/simulations/external"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// applyPolicy puts --policy and --command in place of the scenario's.
func (f *simFlags) applyPolicy(cmd *cobra.Command, s *scenario.Scenario) error {
	if f.policy != "" {
		if !slices.Contains(scenario.Policies, f.policy) {
			return usagef(scenario.PolicyHint(f.policy), "--policy: there is no %.40q", f.policy)
		}
		s.Policy.Name = f.policy
	}
	if !cmd.Flags().Changed("command") {
		return nil
	}
	switch {
	case strings.TrimSpace(f.command) == "":
		return usagef(`write --command "python3 mine.py", or leave it out`, "--command: no program is named")
	case f.policy != "" && f.policy != scenario.Own:
		return usagef("leave --policy out", "--command is of policy own, not of %s", f.policy)
	}
	s.Policy.Name, s.Policy.Command = scenario.Own, f.command
	return nil
}

// knownPolicy wants a process for a policy of a user's own, and takes its files into
// the scenario's hash.
func knownPolicy(s *scenario.Scenario) error {
	if s.Policy.Name == scenario.Own && strings.TrimSpace(s.Policy.Command) == "" {
		return usagef(`add --command "python3 mine.py", or write policy: {name: own, command: python3 mine.py}; docs/policies.md has an example`, "policy own: no command is named")
	}
	if err := policyStarts(s); err != nil {
		return err
	}
	return external.Identify(s)
}

// policyStarts refuses a process whose program is not here.
func policyStarts(s *scenario.Scenario) error {
	if s.Policy.Name != scenario.Own {
		return nil
	}
	words := strings.Fields(s.Policy.Command)
	if len(words) == 0 {
		return nil
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		return usagef("name a program of your PATH or an executable file with its folder, such as ./mine; a script after its interpreter: python3 mine.py",
			"policy %.200q: %v", s.Policy.Command, err)
	}
	return nil
}

// noteCommand says that a scenario, and not the user, has a process decide.
func (a *app) noteCommand(s *scenario.Scenario) {
	if s.Policy.Name == scenario.Own && s.Policy.Command != "" {
		a.note("the scenario has the process `%.200s` decide, which runs as you", s.Policy.Command)
	}
}
