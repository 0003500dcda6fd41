// Package chance is the simulator's randomness: streams that are functions of
// (seed, who, purpose, count), so that what one peer draws does not depend on
// what another has drawn before, and two policies see the same world.
//
// The generator is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). Logarithms and exponentials are integer
// arithmetic, and no floating-point operation can be fused with the next, so that a
// seed gives the same run on every processor.
package chance
