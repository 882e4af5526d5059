from typing import Dict, List, Optional, Sequence, Tuple

__version__: str

class ForgettingLawsError(ValueError): ...

class Fit:
    def to_json(self) -> str: ...
    @staticmethod
    def from_json(text: str) -> Fit: ...
    def warnings(self) -> List[Tuple[str, str]]: ...
    def inputs(self) -> List[str]: ...
    def loss_pt0_at(self, n_params: float) -> Optional[float]: ...
    def predict(self, rows: Sequence[Sequence[float]]) -> str: ...

class Mixture:
    def __init__(
        self,
        p: float,
        sampler: str,
        seed: int,
        steps: int,
        batch: int,
        target_sequences: int,
        reserved_sequences: int,
        replay_sequences: Optional[int],
        sequence_tokens: int,
    ) -> None: ...
    def indices(self, start: int, stop: int) -> bytes: ...
    def counts(self, steps: int) -> Tuple[int, int]: ...
    def target_epoch(self, step: int) -> int: ...

Numbers = Dict[str, List[Optional[float]]]
Labels = Dict[str, List[str]]

def fit_law(
    rows: int,
    numbers: Numbers,
    labels: Labels,
    law: str,
    resamples: int,
    level: float,
    seed: int,
    hold_out: Optional[str],
    threads: int,
) -> Fit: ...
def rank_laws(
    rows: int, numbers: Numbers, labels: Labels, laws: List[str], resamples: int
) -> str: ...
def law_list() -> List[Tuple[str, str, str, List[str], List[str]]]: ...
def smallest_p(
    fits: Sequence[Fit],
    at: Sequence[float],
    nats: Optional[float],
    share: Optional[float],
    confidence: float,
) -> str: ...
def share(batch: int, rank: int, ranks: int) -> Tuple[int, int]: ...
def study_new(
    path: str,
    n_params: float,
    d_ft_tokens: float,
    nats: Optional[float],
    share: Optional[float],
    confidence: float,
    p: List[float],
    loss_pt0: Optional[float],
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
def study_answer(path: str, resamples: int) -> str: ...
