mod admission;
mod cpu;
mod window;

pub use admission::{Admission, Algorithm, Arrival, BbrOptions, Ended, GradientOptions, Overloaded, Permit};
pub use cpu::{CPU_INTERVAL, CpuLoad, CpuMeter};
