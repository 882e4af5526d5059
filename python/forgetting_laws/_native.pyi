from typing import Callable, Dict, List, Optional, Sequence, Tuple, final

from ._fit import Options, Questions
from ._table import Given

__all__ = [
    "Fit",
    "ForgettingLawsError",
    "Mixture",
    "__version__",
    "advise",
    "convert_weight_decay",
    "evaluation_steps",
    "finetuning_lr",
    "fit_law",
    "law_list",
    "pretraining_crossing",
    "pretraining_lr",
    "rank_laws",
    "read_table",
    "repeated_rows",
    "share",
    "study_add",
    "study_answer",
    "study_ask",
    "study_fail",
    "study_new",
    "study_read",
    "study_release",
    "study_tell",
    "u_curve",
]
__version__: str

class ForgettingLawsError(ValueError): ...

_Progress = Optional[Callable[[int, int], object]]

@final
class Fit:
    def to_json(self) -> str: ...
    @staticmethod
    def from_json(text: str, law: Optional[str], domain: Optional[str]) -> Fit: ...
    def report(self) -> str: ...
    def drawings(self) -> List[Tuple[str, str, bytes, str]]: ...
    def name(self) -> Tuple[str, str, str]: ...
    def summary(self) -> Tuple[str, float, Optional[float], int, int]: ...
    def params(self) -> List[Tuple[str, float, Optional[Tuple[float, float]]]]: ...
    def warnings(self) -> List[str]: ...
    def ranking(self) -> Optional[Tuple[str, str, Optional[Tuple[str, str]]]]: ...
    def inputs(self) -> List[str]: ...
    def predict(
        self, rows: bytes, epochs: Optional[float]
    ) -> Tuple[bytes, List[List[str]], bytes, List[Optional[str]]]: ...

@final
class Mixture:
    def __new__(
        cls,
        p: float,
        sampler: str,
        seed: int,
        steps: int,
        batch: int,
        target_sequences: int,
        reserved_sequences: int,
        replay_sequences: Optional[int],
        sequence_tokens: int,
    ) -> Mixture: ...
    def indices(self, start: int, stop: int) -> bytes: ...
    def counts(self, steps: int) -> Tuple[int, int]: ...
    def target_epoch(self, step: int) -> int: ...

def read_table(
    path: str, map: List[str]
) -> Tuple[
    Dict[str, bytes], Dict[str, List[str]], List[str], List[str], str, List[int], str
]: ...
def repeated_rows(rows: int, repeated: List[int]) -> str: ...
def fit_law(
    given: Given,
    law: str,
    vocab_size: Optional[int],
    settings: Options,
    prove: bool,
    sweep: bool,
    progress: _Progress,
) -> Fit: ...
def rank_laws(
    given: Given,
    laws: List[str],
    vocab_size: Optional[int],
    settings: Options,
    progress: _Progress,
) -> Optional[Tuple[str, str, Optional[Tuple[str, str]]]]: ...
def law_list() -> List[Tuple[str, str, str, List[str], List[str]]]: ...
def advise(
    fits: Sequence[Fit],
    at: Sequence[float],
    nats: Optional[float],
    share: Optional[float],
    confidence: float,
    further: Questions,
) -> str: ...
def share(batch: int, rank: int, ranks: int) -> Tuple[int, int]: ...
def pretraining_lr(
    peak: float, total_steps: int, warmup: float, terminal: float, steps: List[int]
) -> List[float]: ...
def pretraining_crossing(warmup: float, terminal: float, share: float) -> Optional[float]: ...
def finetuning_lr(
    peak: float, ratio: float, warmup_steps: int, steps: List[int]
) -> List[float]: ...
def convert_weight_decay(value: float, meant: str, wanted: str, peak: Optional[float]) -> float: ...
def evaluation_steps(
    horizon: int, min_interval: int, ratio: float, max_interval: int
) -> List[int]: ...
def u_curve(
    evaluations: Sequence[Tuple[int, float, float]], rise: float, factor: float, min_steps: int
) -> Tuple[Optional[Tuple[int, float, float, bool]], bool, bool]: ...
def study_new(
    path: str,
    n_params: float,
    d_ft_tokens: float,
    nats: Optional[float],
    share: Optional[float],
    confidence: float,
    p: List[float],
    loss_pt0: Optional[float],
    vocab_size: Optional[int],
    models: List[Tuple[str, float, float]],
    candidates: List[Tuple[str, float, float, float]],
) -> None: ...
def study_ask(path: str, count: int) -> str: ...
def study_tell(
    path: str,
    run: int,
    loss_pt0: Optional[float],
    loss_pt: Optional[float],
    loss_ft: Optional[float],
) -> None: ...
def study_add(
    path: str,
    model: Optional[str],
    n_params: float,
    d_ft_tokens: float,
    p: float,
    loss_pt0: Optional[float],
    loss_pt: Optional[float],
    loss_ft: Optional[float],
) -> int: ...
def study_fail(path: str, run: int, why: str) -> None: ...
def study_release(path: str, run: int) -> None: ...
def study_read(path: str) -> str: ...
def study_answer(path: str, resamples: int, model_spread: Optional[float]) -> str: ...
