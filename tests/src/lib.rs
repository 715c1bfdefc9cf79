//! What the black-box and the structure tests share.
