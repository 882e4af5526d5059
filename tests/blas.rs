//! Two BLAS libraries live in one process, libtorch's own and the OpenBLAS of `fit`; each must
//! keep its symbols. FIELD: linked the other way round, torch's matrix products run in OpenBLAS
//! and ignore `tch::set_num_threads`.
#![cfg(all(feature = "torch", feature = "fit", target_os = "linux"))]
// The dynamic linker and MKL are asked through their C interfaces; nothing else can tell whose
// symbol is whose.
#![allow(unsafe_code)]

use approx::assert_relative_eq;
use ndarray::{Array1, Array2};
use ndarray_linalg::{Eigh, LeastSquaresSvd, SVD, Solve, UPLO};
use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use tch::{Device, Kind, Tensor};

/// The address of a C symbol as every library of this process sees it, where one defines it.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: `name` ends in a zero byte.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// The file name of the library that a C symbol resolves to.
fn library_of(name: &CStr) -> String {
    let address = symbol(name).unwrap_or_else(|| panic!("{name:?} is nowhere"));
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is a place for the answer, which is complete where the result is not 0; the
    // string belongs to a loaded library, and none is unloaded.
    let path = unsafe {
        assert_ne!(libc::dladdr(address, info.as_mut_ptr()), 0, "{name:?} lies in no library");
        CStr::from_ptr(info.assume_init().dli_fname)
    };
    path.to_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

/// Uses both libraries, so that the linker keeps both.
fn touch() {
    let _ = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    Array2::<f64>::eye(2).svd(false, false).unwrap();
}

#[test]
fn torch_keeps_its_own_blas() {
    touch();
    for name in [c"sgemm_", c"dgemm_", c"sgemv_", c"sgesdd_", c"dgetrf_"] {
        let library = library_of(name);
        assert!(library.starts_with("libtorch_cpu"), "{name:?} is that of {library}");
    }
}

/// Without this the test above would pass in a process that has no second BLAS.
#[test]
fn the_other_blas_is_there() {
    touch();
    for name in [c"cblas_dgemm", c"dgesvd_", c"dsyev_", c"openblas_get_config"] {
        let library = library_of(name);
        assert!(library.contains("openblas"), "{name:?} is that of {library}");
    }
}

/// torch tells its BLAS the number of threads: MKL, where the matrix products run, must know it.
#[test]
fn the_number_of_threads_reaches_the_blas_of_torch() {
    touch();
    let threads = symbol(c"MKL_Get_Max_Threads").expect("libtorch brings MKL");
    // SAFETY: MKL documents `int mkl_get_max_threads(void)`.
    let threads = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(threads) };
    let before = tch::get_num_threads();
    for asked in [1, 2, 1] {
        tch::set_num_threads(asked);
        assert_eq!(threads(), asked);
    }
    tch::set_num_threads(before);
}

/// Both multiply; the factors are small integers, so that every sum is exact in `f32`.
#[test]
fn products_are_exact_on_both_sides() {
    let n = 300;
    let entry = |i: usize, j: usize| ((i * 7 + j * 5) % 17) as f64 - 8.0;
    let ours = Array2::from_shape_fn((n, n), |(i, j)| entry(i, j));
    let by_hand = |i: usize, j: usize| (0..n).map(|k| entry(i, k) * entry(k, j)).sum::<f64>();

    let product = ours.dot(&ours);
    let flat: Vec<f64> = ours.iter().copied().collect();
    let torch = Tensor::from_slice(&flat).view([n as i64, n as i64]);
    for kind in [Kind::Float, Kind::Double] {
        let torch = torch.to_kind(kind);
        let torch = torch.matmul(&torch);
        for (i, j) in [(0, 0), (1, 7), (150, 299), (299, 299)] {
            assert_eq!(product[[i, j]], by_hand(i, j));
            assert_eq!(torch.double_value(&[i as i64, j as i64]), by_hand(i, j));
        }
        let product: Vec<f64> = product.iter().copied().collect();
        let product = Tensor::from_slice(&product).view([n as i64, n as i64]).to_kind(kind);
        assert!(torch == product);
    }
}

/// The matrix min(i, j), i and j from 1 to n, is the inverse of a tridiagonal one; its eigenvalues
/// are 1 / (4 sin²((2k − 1)π / (4n + 2))), k from 1 to n, and descend. Large enough for LAPACK's
/// blocked code, which calls matrix products of a library that is not its own.
fn minima(n: usize) -> (Array2<f64>, Vec<f64>) {
    let matrix = Array2::from_shape_fn((n, n), |(i, j)| (i.min(j) + 1) as f64);
    let angle = |k: usize| (2 * k + 1) as f64 * std::f64::consts::PI / (4 * n + 2) as f64;
    (matrix, (0..n).map(|k| 0.25 / angle(k).sin().powi(2)).collect())
}

const N: usize = 200;
/// LAPACK's error is a small multiple of ε times the largest eigenvalue, 1.6·10⁴.
const ABSOLUTE: f64 = 1e-9;

#[test]
fn singular_values_are_the_known_ones() {
    let (matrix, expected) = minima(N);
    let (u, values, vt) = matrix.svd(true, true).unwrap();
    for (value, expected) in values.iter().zip(&expected) {
        assert_relative_eq!(value, expected, epsilon = ABSOLUTE);
    }
    let back = u.unwrap().dot(&Array2::from_diag(&values)).dot(&vt.unwrap());
    for (back, entry) in back.iter().zip(&matrix) {
        assert_relative_eq!(back, entry, epsilon = ABSOLUTE);
    }
}

#[test]
fn eigenvalues_are_the_known_ones() {
    let (matrix, expected) = minima(N);
    let (values, vectors) = matrix.eigh(UPLO::Lower).unwrap();
    for (value, expected) in values.iter().rev().zip(&expected) {
        assert_relative_eq!(value, expected, epsilon = ABSOLUTE);
    }
    let back = vectors.dot(&Array2::from_diag(&values)).dot(&vectors.t());
    for (back, entry) in back.iter().zip(&matrix) {
        assert_relative_eq!(back, entry, epsilon = ABSOLUTE);
    }
}

/// The inverse of min(i, j) has 2 on its diagonal (1 at the end) and −1 beside it.
#[test]
fn linear_systems_and_least_squares_have_the_known_answer() {
    let (matrix, _) = minima(N);
    let mut last = Array1::zeros(N);
    last[N - 1] = 1.0;
    let least_squares = matrix.least_squares(&last).unwrap().solution;
    for solution in [matrix.solve(&last).unwrap(), least_squares] {
        for (i, value) in solution.iter().enumerate() {
            let expected = [1.0, -1.0, 0.0][(N - 1 - i).min(2)];
            assert_relative_eq!(*value, expected, epsilon = ABSOLUTE);
        }
    }
}

/// torch's own decompositions, beside the other library, have the known answers too.
#[test]
fn torch_decomposes_rightly_beside_it() {
    touch();
    let (matrix, expected) = minima(N);
    let flat: Vec<f64> = matrix.iter().copied().collect();
    let matrix = Tensor::from_slice(&flat).view([N as i64, N as i64]);
    let (_, values, _) = matrix.svd(true, true);
    let (eigenvalues, _) = Tensor::linalg_eigh(&matrix, "L");
    for found in [values, eigenvalues.flip([0])] {
        for (value, expected) in Vec::<f64>::try_from(found).unwrap().iter().zip(&expected) {
            assert_relative_eq!(value, expected, epsilon = ABSOLUTE);
        }
    }
}
