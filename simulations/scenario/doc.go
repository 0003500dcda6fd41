// Package scenario is what a researcher writes: the peers, the network between
// them, the work that comes and the policy that places it, in one YAML file.
//
// Parse is strict. An unknown field is an error with its line and column and the
// nearest field there is; a number outside of its range names the range; what
// contradicts itself, or could never run, is refused before a run begins. Fields
// that are left out have the values of Default. Times are ns, prices micro-credits
// per second, sizes bytes, shares parts per million, speeds permille.
package scenario
