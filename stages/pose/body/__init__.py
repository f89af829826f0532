"""What a pose is: joints, frames and their maps, errors."""
