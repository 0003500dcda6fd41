// Package rehearsal plays a scenario of the simulator on whole nodes (package
// stack) in virtual time: the stack fidelity of `perrin sim run`, and the other
// side of `perrin sim bridge`.
//
// What a world has, where its peers are, when which workload comes from whom and
// how long each task takes, is what the model has drawn for the same seed: a run
// of the model is the script. Everything that follows from it is the product's
// code, above a network of packets.
//
// The clock is that of testing/synctest, which only a test may use. So the program
// runs itself once more for each replication, and that process is a test with
// one story (Main). Its figures have the names and the meaning of the model's.
// It is faithful and not deterministic: two runs differ a little.
package rehearsal
