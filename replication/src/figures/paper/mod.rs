//! The figures and tables of the paper.

pub mod fig1;
pub mod fig14;
pub mod fig17;
pub mod fig2;
pub mod fig3;
pub mod fig4;
pub mod fig5;
pub mod fig6;
pub mod table1;
pub mod table2;
pub mod table3;
pub mod table4;
